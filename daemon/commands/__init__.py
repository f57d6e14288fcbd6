"""The commands of the tonald program, one file each, imported only when called."""
