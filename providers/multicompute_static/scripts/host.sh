# What the provider does on a machine: looks, checks, marks it as leased, moves the end of the lease, and ends what a cluster started.
#
# Set in the environment: mc_action; mc_token, mc_name, mc_tags and mc_expires of the lease (epoch seconds or "never"); mc_kind,
# the kind of accelerator to count; mc_grace, seconds between TERM and KILL; mc_script, this text.
# The marker is the file `lease`: token, name of the cluster, tags. The end of the lease is in a file of its own, by token.
# stdout: one fact a line, a word and its values; the last one is "done".
umask 077
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin:/usr/local/cuda/bin:/opt/rocm/bin:/opt/aws/neuron/bin
# By the name of the machine, because several may share a home folder.
base=${HOME:?}/.multicompute/$(uname -n)
lease=$base/lease

holder() { sed -n 1p "$lease" 2>/dev/null; }

# The processes of a cluster carry its name, as everything does that is run on its nodes.
work_of() {
    for entry in $(grep -lzxF "MULTICOMPUTE_CLUSTER=$1" /proc/[0-9]*/environ 2>/dev/null); do
        entry=${entry#/proc/}
        printf '%s ' "${entry%/environ}"
    done
}

fail() {
    echo "trouble $*"
    report 2>/dev/null
    echo done
    exit 0
}

# One action at a time. A lock whose owner is gone was left by a script that was killed.
lock() {
    count=0
    mkdir -p "$base" 2>/dev/null || fail "can't make the folder $base"
    chmod 700 "$HOME/.multicompute" "$base"
    until mkdir "$base/lock" 2>/dev/null; do
        # A teardown may just have removed it.
        mkdir -p "$base" 2>/dev/null
        owner=$(cat "$base/lock/pid" 2>/dev/null)
        if [ -n "$owner" ] && ! kill -s 0 "$owner" 2>/dev/null; then
            rm -rf "$base/lock"
        elif [ "$count" -ge 100 ]; then
            # Without an owner: killed between the two, or no room on the disk.
            [ -n "$owner" ] && fail "process $owner holds $base/lock"
            rm -rf "$base/lock"
            mkdir "$base/lock" 2>/dev/null && break
            fail "can't write into $base"
        fi
        count=$((count + 1))
        sleep 0.1
    done
    echo $$ 2>/dev/null >"$base/lock/pid" || { rm -rf "$base/lock"; fail "can't write into $base"; }
    trap 'rm -rf "$base/lock"' EXIT
}

unlock() {
    rm -rf "$base/lock"
    trap - EXIT
}

has_expired() {
    end=$(cat "$base/expires-$1" 2>/dev/null)
    case $end in
        '' | *[!0-9]*) return 1 ;;
    esac
    [ "$(date +%s)" -ge "$end" ]
}

# Ends the processes of a cluster; returns 1 if some can't be ended.
end_work() {
    pids=$(work_of "$1")
    [ -z "$pids" ] || kill -s TERM $pids 2>/dev/null
    count=0
    while pids=$(work_of "$1") && [ -n "$pids" ]; do
        [ "$count" -lt $((mc_grace * 10)) ] || kill -s KILL $pids 2>/dev/null
        [ "$count" -lt $((mc_grace * 10 + 30)) ] || break
        count=$((count + 1))
        sleep 0.1
    done
    [ -z "$pids" ] || { echo "left $pids"; return 1; }
}

# Ends the lease: the processes first, the marker last, so that no other cluster gets the machine before.
release() { # token, name, why
    end_work "$2" || return 1
    printf '%s %s\n' "$1" "$3" >"$base/ended"
    rm -rf -- "$base/scratch-$1"
    rm -f -- "$base/expires-$1" "$lease"
}

release_if_expired() {
    token=$(holder)
    if [ -n "$token" ] && has_expired "$token"; then
        [ -e "$base/lock/pid" ] && [ "$(cat "$base/lock/pid")" = $$ ] || lock
        token=$(holder)
        if [ -n "$token" ] && has_expired "$token"; then
            release "$token" "$(sed -n 2p "$lease")" expired
        fi
    fi
}

# Ends the lease in time, also if nobody looks. Needs no root: it runs as the user who logs in.
start_watch() {
    token=$(holder)
    case $(cat "$base/expires-$token" 2>/dev/null) in
        '' | *[!0-9]*) return ;;
    esac
    watcher=$(cat "$base/watcher" 2>/dev/null)
    if [ -n "$watcher" ] && grep -qsF "$base/host.sh" "/proc/$watcher/cmdline"; then return; fi
    printf '%s\n' "$mc_script" >"$base/host.sh.$$" && mv -f "$base/host.sh.$$" "$base/host.sh"
    (
        unset MULTICOMPUTE_RUN MULTICOMPUTE_SCRATCH mc_script mc_tags mc_token mc_name mc_expires
        mc_action=watch mc_grace=$mc_grace exec setsid sh "$base/host.sh" </dev/null >/dev/null 2>&1
    ) &
    echo $! >"$base/watcher"
}

watch() {
    while [ -n "$(holder)" ]; do
        # In a subshell: what fails there must not end the watch.
        (release_if_expired)
        sleep 3
    done
    rm -f "$base/watcher"
}

report() {
    set -- ${SSH_CONNECTION:-}
    echo "address ${3:-}"
    [ ! -r "$base/ended" ] || echo "ended $(cat "$base/ended")"
    token=$(holder)
    if [ -n "$token" ]; then
        echo "lease $token"
        echo "name $(sed -n 2p "$lease")"
        echo "tags $(sed -n 3p "$lease")"
        echo "expires $(cat "$base/expires-$token" 2>/dev/null)"
        start_watch
    fi
}

# How many accelerators the vendor's own tool finds, and which.
count_accelerators() {
    case $mc_kind in
        nvidia)
            # nvidia-smi(1), --query-gpu: one line for each GPU that answers.
            if found=$(nvidia-smi --query-gpu=name --format=csv,noheader 2>&1); then
                echo "accelerators $(printf '%s\n' "$found" | grep -c .)"
                echo "model $(printf '%s\n' "$found" | head -n 1)"
            else
                fail "nvidia-smi: $(printf '%s\n' "$found" | head -n 1 | cut -c 1-120)"
            fi
            ;;
        amd)
            # rocm-smi(1), -i: lines "GPU[0] : Device Name: ...", several for each GPU.
            if found=$(rocm-smi --showid 2>&1); then
                echo "accelerators $(printf '%s\n' "$found" | sed -n 's/^\(GPU\[[0-9]*\]\).*/\1/p' | sort -u | grep -c .)"
            else
                fail "rocm-smi: $(printf '%s\n' "$found" | head -n 1 | cut -c 1-120)"
            fi
            ;;
        neuron)
            # Neuron LS User Guide: a row for each device, further rows for its processes with an empty first column. Not
            # --json-output, which Neuron 2.34 no longer has.
            if found=$(neuron-ls 2>&1); then
                echo "accelerators $(printf '%s\n' "$found" | grep -c '^| *[0-9][0-9]* *|')"
            else
                fail "neuron-ls: $(printf '%s\n' "$found" | head -n 1 | cut -c 1-120)"
            fi
            ;;
        tpu)
            # Where Ray looks for chips, ray/_private/accelerators/tpu.py: /dev/accel*, else the numbers in /dev/vfio.
            set -- /dev/accel[0-9]*
            [ -e "$1" ] || set -- /dev/vfio/[0-9]*
            if [ -e "$1" ]; then echo "accelerators $#"; else echo "accelerators 0"; fi
            ;;
    esac
}

check() {
    mkdir -p "$base" 2>/dev/null || fail "can't make the folder $base"
    : 2>/dev/null >"$base/probe.$$" || fail "can't write into $base"
    rm -f "$base/probe.$$"
    for tool in grep sed setsid date; do
        command -v $tool >/dev/null || fail "$tool is not installed"
    done
    # What carries the name of a cluster and belongs to no lease here.
    name=$(sed -n 2p "$lease" 2>/dev/null)
    for entry in $(grep -lzE '^MULTICOMPUTE_CLUSTER=.' /proc/[0-9]*/environ 2>/dev/null); do
        other=$(tr '\0' '\n' <"$entry" 2>/dev/null | sed -n 's/^MULTICOMPUTE_CLUSTER=//p')
        entry=${entry#/proc/}
        [ -z "$other" ] || [ "$other" = "$name" ] || echo "work ${entry%/environ} $other"
    done
    count_accelerators
}

take() {
    case $(holder) in
        "$mc_token") ;;
        '')
            scratch=$base/scratch-$mc_token
            mkdir -p "$scratch" && cat >"$scratch/setup" && printf '%s\n' "$mc_expires" >"$base/expires-$mc_token" &&
                printf '%s\n%s\n%s\n' "$mc_token" "$mc_name" "$mc_tags" >"$base/lease.$$" &&
                mv -f "$base/lease.$$" "$lease" || fail "can't write into $base"
            ;;
        *)
            echo busy
            return
            ;;
    esac
    start_setup
}

# The user's setup script, once, in the background like that of a cloud.
start_setup() {
    cd "$base/scratch-$mc_token" 2>/dev/null && [ -s setup ] && [ ! -e setup.log ] || return 0
    chmod 700 setup
    interpreter=sh
    IFS= read -r first <setup
    case $first in '#!'*) interpreter= ;; esac
    : >setup.log
    (
        unset MULTICOMPUTE_RUN MULTICOMPUTE_SCRATCH mc_action mc_script mc_tags mc_expires
        export MULTICOMPUTE_CLUSTER="$mc_name"
        exec setsid $interpreter ./setup </dev/null >>setup.log 2>&1
    ) &
}

case $mc_action in
    watch)
        watch
        exit 0
        ;;
    look) release_if_expired ;;
    check)
        release_if_expired
        check
        ;;
    health) count_accelerators ;;
    take)
        lock
        release_if_expired
        take
        ;;
    extend)
        # With the tags, in case that the marker was removed.
        lock
        if [ "$(holder)" = "$mc_token" ]; then
            printf '%s\n' "$mc_expires" >"$base/expires-$mc_token.$$" &&
                mv -f "$base/expires-$mc_token.$$" "$base/expires-$mc_token" || fail "can't write into $base"
            printf '%s\n%s\n%s\n' "$mc_token" "$mc_name" "$mc_tags" >"$base/lease.$$" &&
                mv -f "$base/lease.$$" "$lease" || fail "can't write into $base"
        fi
        ;;
    end)
        # Also without a marker: somebody may have removed it.
        if [ -d "$base" ] || [ -n "$(work_of "$mc_name")" ]; then
            lock
            case $(holder) in
                "$mc_token" | '')
                    if release "$mc_token" "$mc_name" released; then
                        rm -f -- "$base/ended" "$base/host.sh" "$base/watcher"
                        unlock
                        # Only if they are empty: the home folder may be shared.
                        rmdir "$base" "$HOME/.multicompute" 2>/dev/null
                    fi
                    ;;
                *) echo busy ;;
            esac
        fi
        ;;
esac
report
echo done
