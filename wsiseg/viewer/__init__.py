"""See a slide and what was found on it: a small web app for one person, on this machine, without any other host."""
