#!/bin/bash
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8

# One task per node checks and becomes the command. Should one of them be blocked, srun ends the
# others too, which would wait for it. Inside a container: srun --container-image=... the same.
srun --kill-on-bad-exit=1 @gpudoctor@ exec --policy block -- @command@
