"""Operating a service: daemons, pidfiles, runit; loaded when a command line asks for them."""
