"""Things that a machine may lack: a user's name, links, locks, a network, somebody who reads what is printed."""
