# shellcheck shell=bash
# The users that private servers run as: this script's own, or, as root, the packages' ones.
# PostgreSQL refuses to be root, and RabbitMQ has no need to be.
# shellcheck disable=SC2154  # What it does not set, scripts/services or a sibling does.

readonly CLEAN_PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin

# server_user SERVER DEFAULT: whom its data belongs to, or, before there is any, whom it will.
server_user() {
    if [[ -d $home/$1 ]]; then
        stat -c %U -- "$home/$1"
    elif ((EUID == 0)); then
        printf '%s' "$2"
    else
        id -un
    fi
}

# Owned by its user from the moment it is there under its name.
make_server_dir() {
    local user=$2
    if [[ -d $home/$1 ]]; then return; fi
    rm -rf -- "$home/$1.new"
    mkdir -m 700 -- "$home/$1.new"
    if ((EUID == 0)); then chown -- "$user:" "$home/$1.new"; fi
    mv -- "$home/$1.new" "$home/$1"
}

# become USER COMMAND…: replaces this (sub)shell by a command of that user, with nothing of
# ours in its environment, its folder or its open files: the lock ends with this script.
become() {
    local user=$1
    shift
    cd /
    exec 9>&-
    if [[ $user != "$(id -un)" ]]; then
        set -- setpriv --reuid "$user" --regid "$(id -g "$user")" --init-groups "$@"
    fi
    exec env -i PATH="$CLEAN_PATH" LANG=C.UTF-8 LC_ALL=C.UTF-8 HOME="$home" "$@"
}
