"""Will a run fit on GPUs, and how long will it take?"""
