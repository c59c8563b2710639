#!/bin/bash
# Asks a gateway until standard input ends: load.sh ADDRESS PORT PATH..., a token or nothing on the first line of it.
# One loop reads each path, and one adds products. Each request has a connection of its own, for which a Service chooses
# a pod anew. Every loop prints at its end how often it asked; before that, what was lost, and what was written.
set -u
LC_ALL=C
address=$1 port=$2
shift 2
# Seconds after which a client has gone.
patience=12
read -r token

# Makes one request; sets `status`, 000 for no whole answer, and `location`.
ask() { # METHOD PATH CONTENT
    status=000 location=
    local line length='' body start=$SECONDS answered=000
    {
        printf '%s %s HTTP/1.1\r\nhost: api-gateway\r\nconnection: close\r\n' "$1" "$2" >&3
        [ -z "$token" ] || printf 'authorization: Bearer %s\r\n' "$token" >&3
        [ -z "$3" ] || printf 'content-type: application/json\r\ncontent-length: %d\r\n' ${#3} >&3
        printf '\r\n%s' "$3" >&3
        read -r -t $patience -u 3 _ answered _ || return
        while read -r -t $patience -u 3 line && [ "$line" != $'\r' ]; do
            line=${line%$'\r'}
            case ${line,,} in
                content-length:*) length=${line#*: } ;;
                location:*) location=${line#*: } ;;
            esac
        done
        [ "$line" = $'\r' ] || return
        if [ -n "$length" ]; then
            read -r -N "$length" -t $patience -u 3 body
            [ ${#body} = "$length" ] || return
        fi
    } 2>/dev/null 3<>"/dev/tcp/$address/$port" || return
    [ $((SECONDS - start)) -gt $patience ] || status=$answered
}

# Asks again and again, some twenty times a second.
go_on() { # METHOD PATH CONTENT WANTED
    local asked=0
    trap : PIPE
    while [ ! -e "$over" ]; do
        ask "$1" "$2" "$3"
        asked=$((asked + 1))
        if [ "$status" != "$4" ]; then echo "lost $status $1 $2"; fi
        if [ "$status" = 201 ]; then echo "wrote $location"; fi
        sleep 0.03
    done
    echo "asked $asked"
}

over=$(mktemp -u)
for path; do
    go_on GET "$path" '' 200 &
done
go_on POST /products '{"name":"Load","price":1}' 201 &
while read -r _; do :; done
touch "$over"
wait
rm "$over"
