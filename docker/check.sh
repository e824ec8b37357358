#!/usr/bin/env bash
# What can be tried of an image without a container engine: every RUN step of a Dockerfile, executed one by one in clean
# Debian roots made by debootstrap, a root for each stage. Run by hand, as root:
#
#     docker/check.sh [docker/Dockerfile] [FOLDER]
#
# FOLDER (build/docker-check by default, some 6 GB) is kept, and the base root in it is used again. ARG=VALUE in the
# environment overrides a build argument; WHEELS names a folder with wheels to be found besides the package index.
#
# The stand-in for the base image python:3.11-slim is Debian 12 with its own Python 3.11 and a fresh pip in /usr/local.
# FROM, ARG, ENV, WORKDIR, COPY, RUN, USER, HEALTHCHECK, ENTRYPOINT and CMD are understood; anything else is an error.
set -euo pipefail
cd "$(dirname "$0")/.."

file=${1:-docker/Dockerfile}
place=$(realpath -m "${2:-build/docker-check}")
mirror=${MIRROR:-http://deb.debian.org/debian}
base_path=/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin # as in the base image
mkdir -p "$place"

if [[ ! -e $place/base/ready ]]; then
  debootstrap --variant=minbase --include=python3,python3-venv,ca-certificates bookworm "$place/base" "$mirror"
  cp /etc/resolv.conf "$place/base/etc/resolv.conf"
  cp /etc/ssl/certs/ca-certificates.crt "$place/base/etc/ssl/certs/" # an own authority of the network's is among them
  chroot "$place/base" python3 -m venv /usr/local
  touch "$place/base/ready"
fi

mounted=()
finish() { for path in "${mounted[@]}"; do umount -l "$path"; done; }
trap finish EXIT

stage="" root="" user=0:0 workdir=/ healthcheck="" variables=() arguments=()

begin() { # a new stage: a copy of the base root, with nothing of the stage before
  stage=${1:-final} root=$place/${1:-final} user=0:0 workdir=/ variables=() arguments=()
  rm -rf --one-file-system "$root"
  cp -a "$place/base" "$root"
  local path
  for path in proc dev; do
    mount --bind "/$path" "$root/$path"
    mounted+=("$root/$path")
  done
  if [[ -n ${WHEELS:-} ]]; then
    mkdir "$root/wheels"
    mount --bind "$WHEELS" "$root/wheels"
    mounted+=("$root/wheels")
  fi
}

inside() { # a command in the stage, as the image would run it: its own environment, user and folder
  local environment=(PATH="$base_path" PIP_CERT=/etc/ssl/certs/ca-certificates.crt)
  if [[ -n ${WHEELS:-} ]]; then environment+=(PIP_FIND_LINKS=/wheels); fi
  chroot --userspec="$user" "$root" /usr/bin/env -i "${environment[@]}" "${arguments[@]}" "${variables[@]}" \
    /bin/sh -c 'cd "$0" && "$@"' "$workdir" "$@"
}

expand() { # $PATH as the stage knows it so far
  local path=$base_path variable
  for variable in "${variables[@]}"; do if [[ $variable == PATH=* ]]; then path=${variable#PATH=}; fi; done
  echo "${1//\$PATH/$path}"
}

copy() { # COPY [--from=STAGE] SOURCE... TARGET
  local from=$PWD
  if [[ $1 == --from=* ]]; then
    from=$place/${1#--from=}
    shift
  fi
  local target=$root/${*: -1} sources=("${@:1:$#-1}") source
  if [[ ${*: -1} != /* ]]; then target=$root$workdir/${*: -1}; fi
  for source in "${sources[@]}"; do
    if [[ -d $from/$source ]]; then
      mkdir -p "$target"
      cp -a "$from/$source/." "$target"
    else
      cp -a "$from/$source" "$target"
    fi
  done
  if [[ $from == "$PWD" ]]; then find "$target" -name __pycache__ -prune -exec rm -rf {} +; fi # as .dockerignore says
}

# One instruction a line, without comments and with continued lines joined.
while read -r word rest; do
  echo "== $word $rest"
  read -ra words <<<"$rest"
  case $word in
    FROM) begin "${words[2]:-}" ;;
    ARG)
      name=${rest%%=*}
      arguments+=("$name=${!name-${rest#*=}}")
      ;;
    ENV) for pair in "${words[@]}"; do variables+=("$(expand "$pair")"); done ;;
    WORKDIR)
      workdir=$rest
      mkdir -p "$root$workdir"
      ;;
    COPY) copy "${words[@]}" ;;
    RUN) time inside /bin/sh -c "$rest" ;;
    USER) user=$rest ;;
    HEALTHCHECK) healthcheck=$(tr -d '[],"' <<<"${rest#*CMD}") ;;
    ENTRYPOINT | CMD) ;;
    *)
      echo "docker/check.sh does not know the instruction $word." >&2
      exit 2
      ;;
  esac
done < <(sed -e '/^#/d' -e '/^[[:space:]]*$/d' "$file" | sed -e ':a' -e '/\\$/{N;s/\\\n[[:space:]]*//;ba' -e '}')

echo "== health check: $healthcheck"
inside sh -c "$healthcheck"
echo "== what must not be left in the last stage"
for tool in pip gcc cc make git; do
  if inside sh -c "command -v $tool"; then
    echo "$tool is in the image." >&2
    exit 1
  fi
done
inside sh -c 'test "$(id -u)" != 0'
echo "== the last stage holds $(du -sh --exclude=proc --exclude=dev --exclude=wheels "$root" | cut -f1), of it /opt/wsiseg $(du -sh "$root/opt/wsiseg" | cut -f1)"
