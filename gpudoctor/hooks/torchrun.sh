#!/bin/sh
# Outside torchrun there is one check per node, and its exit code is the script's. Inside,
# `torchrun --no-python gpudoctor exec -- python train.py`, local rank 0 checks, but torchrun
# turns every exit code into 1.
exec @gpudoctor@ exec -- @command@
