"""python -m purified_opsd.cli"""

from .main import main

main()
