"""Where frames come from (files, a watched folder, standard input, a camera) and the hooks that decisions run."""
