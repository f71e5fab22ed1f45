#!/bin/bash
# ImageNet on four nodes of eight GPUs, one process a GPU started by srun: `sbatch configs/slurm/srun.sh`.
#SBATCH --job-name=imagenet_fast
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=8
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=10
#SBATCH --time=24:00:00
#SBATCH --output=%x_%j.out
# Ninety seconds before the time is over, the run is saved and the job goes back into the queue.
#SBATCH --signal=SIGUSR1@90
#SBATCH --requeue
set -euo pipefail

# The same command starts the run and, after a requeue or another sbatch, goes on with it.
srun python train.py fit --config configs/imagenet_fast.yaml \
    --trainer.num_nodes="$SLURM_NNODES" --trainer.devices="$SLURM_NTASKS_PER_NODE" --trainer.strategy=ddp \
    --run "runs/$SLURM_JOB_NAME" --ckpt_path last
