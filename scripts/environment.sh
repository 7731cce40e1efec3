# Sourced by setup.sh and the Makefile from the repository root. Sets
#   kind    conda: the activated environment, if it is the project's or has GNU Radio
#           venv:  .venv on top of the distribution's Python, for which apt has GNU Radio
#   python  the interpreter that every command uses; bin: the folder of its tools
if [ -n "${CONDA_PREFIX:-}" ] && [ -x "$CONDA_PREFIX/bin/python" ] && {
    [ "${CONDA_DEFAULT_ENV:-}" = "$(sed -n 's/^name: *//p' environment.yml)" ] ||
        "$CONDA_PREFIX/bin/python" -c 'import gnuradio' 2>/dev/null
}; then
    kind=conda
    bin=$CONDA_PREFIX/bin
else
    kind=venv
    bin=$PWD/.venv/bin
fi
python=$bin/python
# SoapySDR finds the virtual radio beside what is installed.
if [ -d "$PWD/build/soapy" ]; then
    export SOAPY_SDR_PLUGIN_PATH="$PWD/build/soapy${SOAPY_SDR_PLUGIN_PATH:+:$SOAPY_SDR_PLUGIN_PATH}"
fi
