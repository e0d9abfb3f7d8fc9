# Sourced by bash before the command, in alphabetical order: it must leave nothing behind.
# Exits only with GPUDOCTOR_POLICY=block: 78 the launch must change, 75 another node may do.
if command -v @gpudoctor@ >/dev/null 2>&1; then
    @gpudoctor@ exec -- true </dev/null >&2 || case $? in
        75) exit 75 ;;
        78) exit 78 ;;
    esac
fi
:
