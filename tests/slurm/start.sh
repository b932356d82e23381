#!/usr/bin/env bash
# Starts a SLURM of one node on the loopback interface of this machine, for tests.
#
#   tests/slurm/start.sh FOLDER      installs what is missing, writes FOLDER/slurm.conf, starts
#                                    munged, slurmctld and slurmd; then: . FOLDER/env.sh
#   tests/slurm/stop.sh FOLDER       ends them again
#
# Debian or Ubuntu, as root. Nothing below /etc/slurm is touched; all state is kept in FOLDER. No
# cgroups (they are not there in containers), no accounting: the plainest SLURM that runs jobs.
set -euo pipefail

folder=$(realpath -m "${1:?a folder for the state of the daemons}")
[ "$(id -u)" = 0 ] || { echo "start.sh: needs root, to install packages and start daemons" >&2; exit 3; }
if ! command -v slurmctld slurmd munged sbatch >/dev/null; then
    command -v apt-get >/dev/null || { echo "start.sh: no slurm, and no apt-get to install it" >&2; exit 3; }
    { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq \
        --no-install-recommends slurm-wlm munge; } >&2 ||
        { echo "start.sh: slurm-wlm and munge could not be installed" >&2; exit 3; }
fi

mkdir -p "$folder"/{state,spool,log,run}
chmod 755 "$folder" "$folder/run"
# slurmctld and slurmd share a host name that resolves to the loopback interface.
version=$(slurmd -V | grep -o '[0-9]*\.[0-9]*' | head -1)
cgroup=disabled
case "$version" in 1?.*|20.*|21.*|22.*) cgroup=autodetect ;; esac
cpus=$(nproc)
memory=$(awk '/MemTotal/ {print int($2 / 1024 * 0.9)}' /proc/meminfo)
cat >"$folder/slurm.conf" <<CONF
ClusterName=loopback
SlurmctldHost=localhost(127.0.0.1)
SlurmctldPort=${SLURMCTLD_PORT:-6917}
SlurmdPort=${SLURMD_PORT:-6918}
AuthType=auth/munge
AuthInfo=socket=$folder/run/munge.socket
CryptoType=crypto/munge
SlurmUser=root
SlurmctldPidFile=$folder/run/slurmctld.pid
SlurmdPidFile=$folder/run/slurmd.pid
SlurmctldLogFile=$folder/log/slurmctld.log
SlurmdLogFile=$folder/log/slurmd.log
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerType=sched/backfill
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
JobCompType=jobcomp/none
ReturnToService=2
KillWait=5
MinJobAge=60
NodeName=localhost NodeAddr=127.0.0.1 CPUs=$cpus RealMemory=$memory State=UNKNOWN
PartitionName=tests Nodes=localhost Default=YES MaxTime=INFINITE State=UP
CONF
echo "CgroupPlugin=$cgroup" >"$folder/cgroup.conf"
cat >"$folder/env.sh" <<ENV
export SLURM_CONF=$folder/slurm.conf
ENV
export SLURM_CONF=$folder/slurm.conf

# munge refuses keys and sockets that others could change.
if [ ! -s "$folder/munge.key" ]; then
    (umask 077 && head -c 1024 /dev/urandom >"$folder/munge.key")
fi
munged --force --key-file="$folder/munge.key" --socket="$folder/run/munge.socket" \
    --pid-file="$folder/run/munged.pid" --log-file="$folder/log/munged.log" \
    --seed-file="$folder/run/munged.seed"
slurmctld -c -f "$folder/slurm.conf"
slurmd -c -N localhost -f "$folder/slurm.conf"

for _ in $(seq 30); do
    if sinfo --noheader --format=%T 2>/dev/null | grep -qx idle; then
        sinfo
        exit 0
    fi
    sleep 1
done
echo "start.sh: the node did not become idle; see $folder/log" >&2
tail -n 5 "$folder"/log/*.log >&2
exit 4
