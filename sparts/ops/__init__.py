"""Operating a service: daemons, pidfiles and runit; loaded only when a command line asks for them."""
