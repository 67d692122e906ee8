# Writes a file or folder to stdout as an archive, after a line that says which of both it is.
#
# Set before this text: path, token (starts that line, as the login shell may have printed something before).
if [ -d "$path" ]; then
    CDPATH= cd -- "$path" || exit
    printf '\n%s folder\n' "$token"
    exec tar -cf - .
elif [ -e "$path" ]; then
    path=$(readlink -f -- "$path") || exit
    CDPATH= cd -- "${path%/*}/" || exit
    printf '\n%s file\n' "$token"
    exec tar -cf - -- "./${path##*/}"
fi
echo "$path: no such file or folder" >&2
exit 2
