"""View a slide and its results in the browser: a small web app for one person on this machine."""
