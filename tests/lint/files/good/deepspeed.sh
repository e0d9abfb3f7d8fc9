#!/bin/bash
export NCCL_DEBUG=WARN
deepspeed --hostfile hostfile --num_gpus 8 --master_port 29501 \
    train.py --deepspeed ds_config.json
