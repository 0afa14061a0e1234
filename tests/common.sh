# shellcheck shell=bash
# What tests/run and demo/demo have in common; to be sourced by them.
#
# Everything happens in a private folder, /tmp/eventstore-NAME.XXXXXX: src/ is a
# copy of the tree, stage/ what `make install` puts in place, tmp/ is for what is
# temporary.  Neither this tree nor PostgreSQL's own folders nor any cluster of the
# machine is touched, and a run as root goes on as the user postgres, because the
# server refuses root.

# What the caller's make or shell may carry must not reach ours: the flags of an
# outer make, and the address of somebody's server.
unset MAKEFLAGS MFLAGS MAKELEVEL LANGUAGE
for variable in "${!PG@}"; do
    [[ $variable == PG_CONFIG || $variable == PG_TEST_* ]] || unset "$variable"
done
export LC_ALL=C.UTF-8

# The server that PG_CONFIG belongs to is the first that is found.
if [[ -n ${PG_CONFIG-} ]]; then
    export PATH=$(dirname "$(type -P "$PG_CONFIG" || echo "$PG_CONFIG")"):$PATH
fi

# enter_private NAME SCRIPT [ARGUMENT...]: on the first call, makes the folder and
# starts SCRIPT anew inside it; on the second, there, sets $private and returns.
# A function prepare_copy, if there is one, is called in between, with the copy of the
# tree and the arguments: still as the caller, with his settings.
enter_private()
{
    local name=$1 script=$2 root
    shift 2
    if [[ -n ${EVENTSTORE_PRIVATE-} ]]; then
        private=$EVENTSTORE_PRIVATE
        return
    fi

    root=$(dirname "$(dirname "$(realpath "${BASH_SOURCE[0]}")")")
    "$root/tests/install-deps" "$name"

    # Not in $TMPDIR: a socket's path must be short, and the folder open to the
    # user postgres.  A script that another one runs stays in the folder of that,
    # so that nothing outlives it.
    private=$(mktemp -d "${EVENTSTORE_TMP:-/tmp}/eventstore-$name.XXXXXX")
    trap 'rm -rf "$private"' EXIT
    # Without these Bash would exit while a child still writes there.
    trap 'exit 129' HUP
    trap 'exit 130' INT
    trap 'exit 143' TERM
    mkdir "$private/tmp"
    export EVENTSTORE_TMP=$private/tmp TMPDIR=$private/tmp
    copy_tree "$root" "$private/src"
    ! declare -F prepare_copy >/dev/null || prepare_copy "$private/src" "$@"

    local become=()
    if (( EUID == 0 )); then
        chown -R postgres: "$private"
        # Not runuser: it would stay between us and a signal.
        become=(setpriv --reuid=postgres --regid=postgres --init-groups --)
    fi
    cd /            # where postgres may stand, too
    export EVENTSTORE_PRIVATE=$private HOME=$private
    exec "${become[@]}" "$private/src/$script" "$@"
}

# copy_tree FROM TO: all but the repository.
copy_tree()
{
    mkdir "$2"
    # A file may be saved while we read the tree; that is tar's status 1.
    tar -C "$1" -c --exclude=./.git . | tar -C "$2" -x --no-same-owner || (( $? == 1 ))
}

# build [MAKE-ARGUMENT...]: compiles src/ and installs it into stage/.
build()
{
    make -s -C "$private/src" clean     # of what came along
    make -s -C "$private/src" -j "$(nproc)" "$@"
    make -s -C "$private/src" install DESTDIR="$private/stage"
}

# Prints the settings with which a server finds the extension in stage/.
library_settings()
{
    local bindir known
    bindir=$(pg_config --bindir)
    known=$("$bindir/postgres" --describe-config | cut -f1)
    if grep -qx extension_destdir <<<"$known"; then         # Debian's own
        echo "extension_destdir = '$private/stage'"
    elif grep -qx extension_control_path <<<"$known"; then  # from PostgreSQL 18 on
        echo "extension_control_path = '$private/stage$(pg_config --sharedir):\$system'"
    else
        echo "this PostgreSQL cannot load an extension from a private folder" >&2
        return 1
    fi
    echo "dynamic_library_path = '$private/stage$(pg_config --pkglibdir):\$libdir'"
    echo "shared_preload_libraries = 'eventstore'"
}

# Ends whatever still works below a folder, and nothing else: a process is ours if
# its current folder is, and a server's is its data folder.  SIGQUIT is a server's
# immediate shutdown; what has not gone after five seconds, a stopped process, say,
# is killed.
end_processes()
{
    local folder=$1 signal pids
    for signal in QUIT KILL; do
        for _ in {1..50}; do
            pids=$(processes_below "$folder") || true
            [[ -n $pids ]] || return 0
            # shellcheck disable=SC2086
            kill -s "$signal" $pids 2>/dev/null || true
            sleep 0.1
        done
    done
}

processes_below()
{
    find /proc/[0-9]*/cwd -maxdepth 0 \( -lname "$1" -o -lname "$1/*" \) -printf '%h\n' 2>/dev/null |
        sed 's,.*/,,'
}
