# Sourced by ./check and ./demo: packages and build. Says in one line what went wrong; details are in $log.

fail() {
    echo "$me: $1 (details: ${log#"$top/"})"
    exit 1
}

missing_packages() {
    sed 's/#.*//' "$top/packages.txt" | while read -r package; do
        [ -n "$package" ] || continue
        dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q ' installed$' || echo "$package"
    done
}

install_packages() {
    command -v apt-get dpkg-query > /dev/null || fail "this machine has no apt-get; Debian 12 is needed"
    local missing
    missing=$(missing_packages)
    [ -n "$missing" ] || return 0
    [ "$(id -u)" = 0 ] || fail "needs root to install packages: $(echo $missing)"
    echo "Installing packages: $(echo $missing)"
    export DEBIAN_FRONTEND=noninteractive
    apt-get update >> "$log" 2>&1 < /dev/null || fail "apt-get update failed: $(grep -a '^E:' "$log" | tail -1)"
    # Nothing of what we install is started by the installation.
    local policy=/usr/sbin/policy-rc.d made=
    if [ ! -e $policy ]; then
        printf '#!/bin/sh\nexit 101\n' > $policy && chmod +x $policy && made=yes
    fi
    apt-get install -y --no-install-recommends $missing >> "$log" 2>&1 < /dev/null
    local rc=$?
    [ -z "$made" ] || rm -f $policy
    [ $rc = 0 ] || fail "the packages could not be installed: $(grep -a '^E:' "$log" | tail -1)"
}

build_kvss() {
    [ -f "$top/build/build.ninja" ] || {
        echo "Configuring in build/"
        meson setup "$top/build" "$top" >> "$log" 2>&1 < /dev/null || fail "meson setup failed: $(grep -a 'ERROR' "$log" | tail -1)"
    }
    echo "Building"
    meson compile -C "$top/build" >> "$log" 2>&1 < /dev/null || fail "the build failed: $( (grep -aE 'error:|ERROR:' "$log"; grep -a FAILED "$log") | head -1)"
}
