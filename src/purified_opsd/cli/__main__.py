"""python -m purified_opsd.cli"""

from . import main

main()
