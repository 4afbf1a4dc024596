#!/bin/sh
# See that Qt, OpenGL and Xvfb find their system libraries. As root on Debian or Ubuntu
# this installs what is missing; elsewhere it says what is missing and how to get it.
set -eu

[ "$(uname -s)" = Linux ] || exit 0

# soname and the Debian package that holds it
LIBRARIES="
libGL.so.1 libgl1
libEGL.so.1 libegl1
libOpenGL.so.0 libopengl0
libglib-2.0.so.0 libglib2.0-0
libfontconfig.so.1 libfontconfig1
libdbus-1.so.3 libdbus-1-3
libxkbcommon-x11.so.0 libxkbcommon-x11-0
libX11-xcb.so.1 libx11-xcb1
libxcb-cursor.so.0 libxcb-cursor0
libxcb-icccm.so.4 libxcb-icccm4
libxcb-image.so.0 libxcb-image0
libxcb-keysyms.so.1 libxcb-keysyms1
libxcb-randr.so.0 libxcb-randr0
libxcb-render-util.so.0 libxcb-render-util0
libxcb-shape.so.0 libxcb-shape0
libxcb-sync.so.1 libxcb-sync1
libxcb-xfixes.so.0 libxcb-xfixes0
libxcb-xinerama.so.0 libxcb-xinerama0
libxcb-xkb.so.1 libxcb-xkb1
"

missing=""
want() { missing="$missing $1"; }
any() { [ -e "$1" ]; } # whether a pattern matched a file

known=$(PATH="$PATH:/sbin:/usr/sbin" ldconfig -p 2>/dev/null || true)
while read -r soname package; do
    [ -n "$soname" ] || continue
    case "$known" in *"$soname"*) ;; *) want "$package" ;; esac
done <<EOF
$LIBRARIES
EOF

command -v xvfb-run >/dev/null || want xvfb
command -v xauth >/dev/null || want xauth
any /usr/lib*/*/dri/swrast_dri.so || any /usr/lib*/dri/swrast_dri.so || want libgl1-mesa-dri
any /usr/share/fonts/truetype/* || any /usr/share/fonts/opentype/* || want fonts-dejavu-core

if [ -z "$missing" ]; then
    exit 0
fi
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "Installing system libraries:$missing"
    apt-get update -qq
    # shellcheck disable=SC2086 # one word per package
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing
    exit 0
fi
echo "These system libraries are missing (names of Debian packages):$missing" >&2
if command -v apt-get >/dev/null; then
    echo "Install them with:  sudo apt-get install$missing" >&2
else
    echo "Install them with your system's package manager, then run this again." >&2
fi
exit 1
