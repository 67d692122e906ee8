# Reports what a node has that decides which variables its fabric needs: one fact a line, a word and its values.
echo "cpus $(nproc 2>/dev/null)"
count() {
    [ -e "$1" ] && echo $# || echo 0
}
echo "nvidia $(count /dev/nvidia[0-9]*)"
echo "neuron $(count /dev/neuron[0-9]*)"
# The devices that jax/_src/hardware_utils.py knows as TPUs, of vendor 1ae0.
for device in /sys/bus/pci/devices/*; do
    case $(cat "$device/vendor" "$device/device" 2>/dev/null | tr '\n' ' ') in
        "0x1ae0 0x0027 "* | "0x1ae0 0x0056 "* | "0x1ae0 0x005e "* | "0x1ae0 0x0062 "* | "0x1ae0 0x0063 "* | \
        "0x1ae0 0x006f "* | "0x1ae0 0x0076 "*) echo "tpu 1" ;;
    esac
done
echo "vendor $(cat /sys/class/dmi/id/sys_vendor 2>/dev/null)"
echo "product $(cat /sys/class/dmi/id/product_name 2>/dev/null)"
(. /etc/os-release && echo "system $ID $VERSION_ID") 2>/dev/null

for link in /sys/class/net/*; do echo "link ${link##*/}"; done
ip -o addr show 2>/dev/null | while read -r _ name family address _; do
    case $family in
        inet | inet6) echo "address ${name%%@*} $address" ;;
    esac
done

for device in /sys/class/infiniband/*; do
    [ -e "$device" ] || continue
    driver=$(readlink -f "$device/device/driver" 2>/dev/null)
    echo "rdma ${device##*/} ${driver##*/} $(cat "$device/ports/1/link_layer" 2>/dev/null)"
done

# The plug-in that connects NCCL to libfabric says in its own text which version it is.
for library in /opt/amazon/ofi-nccl/lib*/libnccl-net*.so /opt/amazon/ofi-nccl/lib/*/libnccl-net*.so \
    /opt/aws-ofi-nccl/lib/libnccl-net*.so; do
    [ -e "$library" ] || continue
    grep -aom1 'aws-ofi-nccl [0-9][0-9.]*' "$library" | head -n 1 | sed 's/^aws-ofi-nccl/ofi/'
    break
done

for file in /etc/nccl.conf "$HOME/.nccl.conf"; do
    [ -r "$file" ] && sed -n 's/^[[:space:]]*\([A-Z][A-Z0-9_]*=\)/conf \1/p' "$file"
done
env | sed -n 's/^\(\(NCCL\|FI\|GLOO\|UCX\|RDMAV\|NEURON\|OMPI_MCA\)_[A-Za-z0-9_]*=\)/preset \1/p
s/^\(LD_LIBRARY_PATH=\)/preset \1/p'

# The vendors' own scripts know their variables best.
sourced() {
    (. "$1" >/dev/null 2>&1 && env | sed -n 's/^\(NCCL_[A-Z0-9_]*=\)/sourced \1/p')
}
for folder in /usr/local/gib /var/lib/gib; do
    # Without RDMA devices NCCL would fail: "Failed to initialize any NET plugin".
    if [ -r "$folder/scripts/set_nccl_env.sh" ] && [ -e /sys/class/infiniband ]; then
        echo "gib $folder"
        sourced "$folder/scripts/set_nccl_env.sh"
        break
    fi
done
if [ -r /var/lib/tcpxo/lib64/nccl-env-profile.sh ]; then
    echo "tcpxo /var/lib/tcpxo"
    export NCCL_LIB_DIR=/var/lib/tcpxo/lib64
    sourced /var/lib/tcpxo/lib64/nccl-env-profile.sh
fi

for mpirun in "$(command -v mpirun)" /opt/amazon/openmpi/bin/mpirun /opt/hpcx*/ompi/bin/mpirun; do
    if [ -x "$mpirun" ]; then
        echo "mpirun $mpirun"
        break
    fi
done
exit 0
