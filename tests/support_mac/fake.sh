#!/bin/bash
# Any tool of a Mac, by the name that it is called by, and the built `openclaw` too. It writes each call into WORLD/calls,
# one line a call, arguments in brackets. What a test puts into WORLD/behave/NAME comes before what it does by itself.
world='@WORLD@'
name=${0##*/}
{
    printf '%s' "$name"
    printf ' [%s]' "$@"
    echo
} >>"$world/calls"
if [ -f "$world/behave/$name" ]; then . "$world/behave/$name"; fi

agent=$HOME/Library/LaunchAgents/ai.openclaw.mac.plist
last=${!#}
case "$name $1" in
    "uname "*) echo Darwin ;;
    "id -u") echo 501 ;;
    "sleep "*) /bin/sleep 0.01 ;;
    "ps -p") cat "$world/${4%=}.$2" 2>/dev/null ;; # WORLD/comm.PID, WORLD/command.PID
    "git describe") echo abc1234 ;;
    "git rev-list") echo 42 ;;
    "cargo build")
        case " $* " in *" --release "*) config=release ;; *) config=debug ;; esac
        mkdir -p "target/$config"
        cp "$world/fake.sh" "target/$config/openclaw"
        ;;
    "lipo -create") cat "$4" "$5" >"$3" ;;
    "sips -z") echo picture >"$last" ;;
    "iconutil -c") echo icon >"$4" ;;
    "plutil -extract")
        case $2 in
            ProgramArguments.*)
                word=$(sed -n '/<key>ProgramArguments/,/<\/array>/s/.*<string>\(.*\)<\/string>.*/\1/p' "$last" | sed -n "$((${2#*.} + 1))p")
                [ -n "$word" ] || exit 1
                echo "$word"
                ;;
            *) sed -n "/<key>$2</{n;s/.*<string>\(.*\)<\/string>.*/\1/p;}" "$last" ;;
        esac
        ;;
    "security find-identity") cat "$world/identities" ;;
    "codesign -dvv") printf 'Identifier=ai.openclaw.mac\nTeamIdentifier=%s\n' "$(cat "$world/team")" >&2 ;;
    "codesign -d")
        case $2 in
            -r-) [ ! -e "$last/Contents/requirement" ] || cat "$last/Contents/requirement" ;;
            *) echo '<plist><dict/></plist>' ;;
        esac
        ;;
    "codesign --force")
        case "$*" in
            *"--sign - "*) echo '# designated => cdhash H"0123"' >"$last/Contents/requirement" ;;
            *) echo 'designated => identifier "ai.openclaw.mac" and anchor apple generic' >"$last/Contents/requirement" ;;
        esac
        ;;
    "launchctl print")
        [ -e "$world/loaded" ] || exit 113
        printf 'gui/501/ai.openclaw.mac = {\n\tstate = running\n\tprogram = %s\n}\n' "$(cat "$world/loaded")"
        ;;
    "launchctl bootout") rm "$world/loaded" 2>/dev/null || exit 3 ;;
    "launchctl bootstrap") echo "$HOME/OpenClaw.app/Contents/MacOS/openclaw" >"$world/loaded" ;;
    "openclaw app")
        case $2 in
            install)
                env | sort >"$world/environment"
                mkdir -p "$HOME/Library/LaunchAgents" "$HOME/.openclaw/logs"
                {
                    echo '<!-- Written by openclaw itself --><key>ProgramArguments</key><array>'
                    printf '<string>%s</string>\n' "$0" app run "${@:3}"
                    echo '</array>'
                } >"$agent"
                "$world/../tools/launchctl" enable gui/501/ai.openclaw.mac
                "$world/../tools/launchctl" bootstrap gui/501 "$agent"
                code=$?
                [ "$code" = 0 ] || { echo "app: \`bootstrap\` failed: exit code $code" >&2; exit 1; }
                echo 4711 >"$HOME/.openclaw/app.lock"
                echo 'what the app logged' >"$HOME/.openclaw/logs/app.log"
                ;;
            status) printf '{\n  "running": true,\n  "pid": 4711,\n  "file": "%s",\n  "log": "%s"\n}\n' "$agent" "$HOME/.openclaw/logs/app.log" ;;
        esac
        ;;
    "openclaw gateway" | "openclaw node")
        printf '{\n  "running": false,\n  "file": "%s"\n}\n' "$HOME/Library/LaunchAgents/ai.openclaw.$1.plist"
        ;;
    "openclaw mac-debug") [ -e "$world/loaded" ] ;;
esac
