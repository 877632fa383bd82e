"""How a request runs: its schedule, its stop rule, its step, the weights it may have to go back to."""
