#!/usr/bin/env bash
# A machine for TestProvision, in namespaces of its own: machine.sh DIR runs DIR/in/inside.sh there as its first process.
#
# Its file system shows this machine's, and keeps what is written in memory; where a node keeps its things it is empty. It has
# a network with one address, and control groups of its own. When this process ends everything is gone.
set -euo pipefail
shopt -s inherit_errexit

dir=$1
root=$dir/root
layer=$dir/layer

# No mount may show outside. In a chroot "/" is no mount, and what can't be made private had better be so already.
if ! mount --make-rprivate / 2>/dev/null && grep -q ' shared:' /proc/self/mountinfo; then
    echo "the mounts of this machine can't be kept apart from those made here" >&2
    exit 1
fi
mkdir -p "$root" "$layer"
mount -t tmpfs -o mode=0755 tmpfs "$layer"
mkdir "$layer/upper" "$layer/work"
mount -t overlay -o "lowerdir=/,upperdir=$layer/upper,workdir=$layer/work" overlay "$root"

mount -t proc proc "$root/proc"
mount -t sysfs sysfs "$root/sys"
mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
mount --rbind /dev "$root/dev"
mount -t tmpfs -o mode=1777 tmpfs "$root/dev/shm"
mount -t tmpfs -o mode=1777 tmpfs "$root/tmp"
for place in /run /etc/quorate /var/lib/quorate /etc/postgresql /var/lib/postgresql; do
    mkdir -p "$root$place"
    mount -t tmpfs -o mode=0755 tmpfs "$root$place"
done
mkdir -p "$root/mnt"
mount --bind "$dir/in" "$root/mnt"

ip link set lo up
ip link add eth0 type veth peer name eth1
ip address add 192.168.56.11/24 dev eth0
ip link set eth0 up
ip link set eth1 up

exec chroot "$root" /bin/bash /mnt/inside.sh
