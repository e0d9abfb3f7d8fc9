#!/bin/sh
# slurm.conf: HealthCheckProgram=/usr/local/sbin/gpudoctor-healthcheck HealthCheckInterval=600
# and HealthCheckNodeState=ANY,CYCLE, so that not all nodes look at once. Slurm runs it as root
# with no arguments and hardly a variable, for 60 s at most, and does nothing with its exit code.
# It drains only if `drain` says so, after so many failures in a row; it never undrains.
drain=no
failures=3
log=@log@
count=/run/gpudoctor-healthcheck

cd /
export PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
found=$(env -i "PATH=$PATH" timeout --signal=KILL 45 \
    @gpudoctor@ exec --policy block --block-owner node --deadline 20 --quiet -- true 2>&1)
code=$?
if [ -n "$found" ]; then
    printf '%s health check\n%s\n' "$(date -u +%FT%TZ)" "$found" >>"$log"
fi
if [ $code != 75 ]; then
    rm -f "$count"
    exit 0
fi
echo >>"$count"
if [ "$drain" = yes ] && [ "$(wc -l <"$count")" -ge "$failures" ]; then
    first=$(printf '%s\n' "$found" | sed -n 's/^\[FAIL\] \([a-z-]*\).*/\1/p' | head -n 1)
    timeout 10 scontrol update "nodename=${SLURMD_NODENAME:-$(hostname -s)}" state=drain \
        "reason=gpudoctor: ${first:-failed}"
fi
exit 0
