"""Learning on the device: the learner, its journal, and what follows from them."""
