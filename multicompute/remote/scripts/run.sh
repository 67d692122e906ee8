# Runs one command on a node and ends everything that it started when the client asks for it, or has gone.
#
# Set before this text: token, input (bytes of input that follow, -1 for none), grace (seconds between TERM and KILL),
# alive (seconds of silence after which the client counts as gone), sweep (1: end what the command left in the
# background), scratch (a folder to make for the command, empty for none).
# stdin: the command, on one line; its input; then one newline every few seconds for as long as the client lives.
IFS= read -r job || exit 255
exec 3<&0 </dev/null

if [ -n "$scratch" ]; then
    # Refused if it exists: it could be anybody's.
    mkdir -m 700 -- "$scratch" || exit 255
fi
if [ "$input" -ge 0 ]; then
    file=$(mktemp "${TMPDIR:-/tmp}/mc-XXXXXX") || exit 255
    # Nothing follows the input before it has all arrived, so that reading ahead takes nothing from the lifeline.
    head -c "$input" <&3 >"$file"
    if [ "$(wc -c <"$file")" -ne "$input" ]; then
        rm -f "$file"
        [ -z "$scratch" ] || rm -rf -- "$scratch"
        exit 255
    fi
    exec 4<"$file"
    rm -f "$file"
else
    exec 4</dev/null
fi

shell=sh
if command -v bash >/dev/null 2>&1; then shell="bash --norc"; fi

# The processes of this run, also those that left the process group: all carry the mark in their environment.
marked() {
    for entry in $(grep -lzxF "MULTICOMPUTE_RUN=$token" /proc/[0-9]*/environ 2>/dev/null); do
        entry=${entry#/proc/}
        printf '%s ' "${entry%/environ}"
    done
}

# The processes of the command's group that are still running, zombies left out. The group's id is the third field
# after the name, which is in brackets and may contain anything.
group() {
    for entry in /proc/[0-9]*/stat; do
        IFS= read -r line <"$entry" || continue
        set -- ${line##*) }
        if [ "$3" = "$leader" ] && [ "$1" != Z ] && [ "$1" != X ]; then
            entry=${entry#/proc/}
            printf '%s ' "${entry%/stat}"
        fi
    done 2>/dev/null
}

end_marked() {
    count=0
    while [ "$count" -lt 30 ]; do
        pids=$(marked)
        [ -n "$pids" ] || return 0
        kill -s KILL $pids 2>/dev/null
        sleep 0.1
        count=$((count + 1))
    done
}

end_all() {
    kill -s TERM -- "-$leader"
    count=0
    while [ "$count" -lt $((grace * 10)) ] && kill -s 0 -- "-$leader"; do
        sleep 0.1
        count=$((count + 1))
    done
    # By its own id as well: it may not have made its group yet.
    kill -s KILL -- "-$leader"
    kill -s KILL "$leader"
    end_marked
    # What runs under another user, through sudo, is out of reach for a plain kill.
    if [ -n "$(group)" ] && command -v sudo >/dev/null; then
        # The shell's own kill: that of procps 4.0.2 takes a small group's number for a signal's.
        sudo -n sh -c 'kill -s KILL -- "-$1"' sh "$leader"
        sleep 0.1
    fi
}

# What a shell without job control starts in the background ignores INT and QUIT, and so do all its children. dash has no
# job control without a terminal.
[ -z "${BASH_VERSION:-}" ] || set -m
printf '%s\n' "$job" | MULTICOMPUTE_RUN="$token" MULTICOMPUTE_SCRATCH="$scratch" setsid $shell -c '
    IFS= read -r job
    exec <&4 4<&-
    job=$(printf "%b." "$job")
    eval "unset job
${job%.}"' "${shell%% *}" 3<&- &
leader=$!
[ -z "${BASH_VERSION:-}" ] || set +m
job=

(
    # Only bash can wait for a time; without it only the end of the connection ends the command.
    if [ -n "${BASH_VERSION:-}" ]; then
        while read -r -t "$alive" _ <&3; do :; done
    else
        while read -r _ <&3; do :; done
    fi
    trap "" TERM HUP INT PIPE
    end_all
    exit 0
) >/dev/null 2>&1 4<&- &
watchdog=$!
exec 3<&- 4<&-

# bash reports a background job that was killed; the client does that.
{ wait "$leader"; } 2>/dev/null
status=$?
# A watchdog that has begun to end processes ignores TERM, and is waited for.
kill -s TERM "$watchdog" 2>/dev/null
{ wait "$watchdog"; } 2>/dev/null
if [ $? = 0 ]; then
    left="$(group)$(marked)"
    [ -z "$left" ] || echo "multicompute: these processes could not be ended: $left" >&2
elif [ "$sweep" = 1 ]; then
    end_marked 2>/dev/null
fi
[ -z "$scratch" ] || rm -rf -- "$scratch"
exit "$status"
