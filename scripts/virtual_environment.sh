#!/bin/sh
# Make a virtual environment:  virtual_environment.sh PYTHON FOLDER
# As root on Debian or Ubuntu this installs the package that Debian's Python lacks for it.
set -eu
python=$1
folder=$2

if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
    echo "Python 3.11 or newer is needed, and '$python' is not one." >&2
    echo "Install it, or name it:  make PYTHON=/path/to/python3.11 ..." >&2
    exit 1
fi
if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
    package="$("$python" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')"
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        echo "Installing $package"
        apt-get update -qq
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$package"
    else
        echo "'$python' cannot make virtual environments: the module ensurepip is missing." >&2
        echo "On Debian or Ubuntu:  sudo apt-get install $package" >&2
        exit 1
    fi
fi
"$python" -m venv "$folder"
"$folder/bin/python" -m pip install --quiet --upgrade 'pip>=25.1' # knows dependency groups
