"""Several nodes at once: the same command on each of them, one report.

1. `place` reads from the launcher who we are, how many we shall be, and where we meet.
2. All open the `board`, where nodes leave word: a TCPStore or a shared directory.
3. The node of rank 0 goes through `lead`, every other one through `follow`; what both do is `part`.
4. Each looks at its own machine and puts its facts on the board; rank 0 `gather`s them, and notes
   who is missing, lost or not to be understood.
5. Rank 0 calls the roll. In rounds of disjoint pairs (`links`) each node meets others, and tells
   what it found of the way to them.
6. With --deep rank 0 gives `orders`: these nodes sum together, then those.
7. Rank 0 comes to the `verdict`, prints the report and leaves the exit code for all others.

Nothing that comes from another node is trusted, and nothing is waited for without an end.
"""
