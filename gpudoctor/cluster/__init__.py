"""Several nodes at once: who we are, where we meet, what only two nodes together can see."""
