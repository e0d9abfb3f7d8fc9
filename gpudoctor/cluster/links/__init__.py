"""What only two nodes together can see: each listens as a `peer`, and tries the ways to others.

A `card` says how a node is reached, `rounds` who meets whom, `tour` goes through them, `pair` tries
one other node, and `wire` is what both say.
"""
