# Unpacks an archive from stdin next to its place, and moves it there when all of it has arrived.
#
# Set before this text: kind ("file" or "folder"), name (of what is copied), target (the name it gets).
case $target in
    */) target=$target$name ;;
esac
if [ "$kind" = file ] && [ -d "$target" ]; then target=${target%/}/$name; fi

fail() {
    echo "$1" >&2
    exit 1
}

if [ -d "$target" ]; then
    # Inside the folder, which may be a file system of its own: moves must stay within one.
    target=$(CDPATH= cd -- "$target" && pwd -P) || exit
    stage=$(mktemp -d "${target%/}/.multicompute-XXXXXX") || exit
    merges=1
else
    parent=$(dirname -- "$target") || exit
    mkdir -p -- "$parent" || exit
    stage=$(mktemp -d "$parent/.multicompute-XXXXXX") || exit
    merges=0
fi
trap 'rm -rf -- "$stage"' EXIT
trap 'exit 143' TERM HUP INT

# With the modes of the archive, whatever the umask, and without its owners.
tar -xpof - -C "$stage" || exit
[ -f "$stage/complete" ] || fail "the transfer was cut off; nothing was changed"

# Move what is in one folder into another: files replace those of the same name, folders are merged.
merge() {
    find "$1" -mindepth 1 -maxdepth 1 ! -type d -exec mv -f -t "$2" -- {} + || return
    for entry in "$1"/* "$1"/.[!.]* "$1"/..?*; do
        [ -d "$entry" ] && [ ! -L "$entry" ] || continue
        if [ -d "$2/${entry##*/}" ]; then
            (merge "$entry" "$2/${entry##*/}") || return
        else
            mv -f -t "$2" -- "$entry" || return
        fi
    done
}

if [ "$merges" = 1 ]; then
    merge "$stage/data" "$target"
else
    mv -f -T -- "$stage/data" "$target"
fi
