#!/bin/bash
# CIFAR-10 on two nodes of four GPUs, torchrun on each node starts the processes: `sbatch configs/slurm/torchrun.sh`.
#SBATCH --job-name=cifar10_pgd
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=32
#SBATCH --time=12:00:00
#SBATCH --output=%x_%j.out
#SBATCH --requeue
set -euo pipefail

head_node=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
# A process that dies takes the others with it; all begin anew, three times at most, at the last checkpoint. Launchers
# count their restarts by themselves: with a store of its own for every attempt they meet again all the same.
export TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1
# The -- keeps torchrun from reading --run, which it would take for one of its own options.
# Sixteen images on each of eight GPUs make the paper's batch of 128.
srun torchrun --nnodes="$SLURM_NNODES" --nproc-per-node="$SLURM_GPUS_PER_NODE" --max-restarts=3 \
    --rdzv-id="$SLURM_JOB_ID" --rdzv-backend=c10d --rdzv-endpoint="$head_node:29500" \
    -- train.py fit --config configs/cifar10_pgd.yaml --data.batch_size=16 \
    --trainer.num_nodes="$SLURM_NNODES" --trainer.devices="$SLURM_GPUS_PER_NODE" --trainer.strategy=ddp \
    --run "runs/$SLURM_JOB_NAME" --ckpt_path last
