#!/usr/bin/env bash
# Shows that every check can fail: plants one offence at a time in a copy of the sources and expects the check to name it.
set -eu
cd "$(dirname "$0")/.."

copy=$(mktemp -d)
trap 'rm -rf "$copy"' EXIT
mkdir "$copy/repo"
tar -cf - --exclude=target --exclude=node_modules --exclude=.git . | tar -xf - -C "$copy/repo"
cd "$copy/repo"
planted=0

# expect CHECK WORDS: the check fails and says WORDS.
expect() {
    if said=$("scripts/$1" 2>&1); then
        echo "test-checks: $1 did not notice: $2" >&2
        exit 1
    fi
    case $said in
        *"$2"*) planted=$((planted + 1)) ;;
        *) printf 'test-checks: %s failed for another reason than "%s":\n%s\n' "$1" "$2" "$said" >&2; exit 1 ;;
    esac
}

# plant FILE TEXT CHECK WORDS: with TEXT at the end of FILE the check fails and says WORDS; then FILE is as before.
plant() {
    cp "$1" "$copy/before"
    printf '%s\n' "$2" >>"$1"
    expect "$3" "$4"
    cp "$copy/before" "$1"
}

for check in check-rooms.sh check-crates.sh check-source.sh security-table.sh; do
    "scripts/$check" >/dev/null || { echo "test-checks: $check fails before anything is planted" >&2; exit 1; }
done

plant src/exec/mod.rs 'use crate::gateway::registry;' check-rooms.sh 'exec imports gateway'
plant src/exec/mod.rs 'use crate::{
    protocol::{text, gateway},
    app::queue,
};' check-rooms.sh 'exec imports app'
plant src/exec/mod.rs 'fn f() { crate::node::run() }' check-rooms.sh 'exec imports node'
plant src/exec/mod.rs 'mod tests { use super::super::desktop; }' check-rooms.sh 'exec imports desktop'
plant src/exec/mod.rs 'use crate as house;' check-rooms.sh 'another name'
plant src/lib.rs 'pub mod cellar;' check-rooms.sh 'no such room'

cp README.md "$copy/kept"
sed '/^| serde_json |/d' "$copy/kept" >README.md
expect check-crates.sh 'in the tree, but not in the table'
sed 's/^| serde_json | [0-9.]*/| serde_json | 0.0.1/' "$copy/kept" >README.md
expect check-crates.sh 'in the table of README.md, but not in the tree'
sed 's/^\(| serde_json | [0-9.]* |\).*/\1 |/' "$copy/kept" >README.md
expect check-crates.sh 'no reason given'
cp "$copy/kept" README.md

cp SECURITY.md "$copy/kept"
sed '/^| A60 /d' "$copy/kept" >SECURITY.md
expect security-table.sh 'A61 stands where A60 should'
# shellcheck disable=SC2016 # a backtick of the table
sed 's/^\(| A60 | [^|]*| `\)/\1sec_gone`, `/' "$copy/kept" >SECURITY.md
expect security-table.sh 'A60: there is no test sec_gone'
sed 's/^\(| A60 | [^|]*|\).*/\1 soon |/' "$copy/kept" >SECURITY.md
expect security-table.sh 'A60: no test: soon'
cp "$copy/kept" SECURITY.md

plant src/exec/mod.rs 'fn f() { unsafe { g() } }' check-source.sh 'unsafe outside'
plant src/sys/mod.rs 'fn f() { unsafe { g() } }' check-source.sh 'SAFETY'
plant src/exec/mod.rs '#[ignore]' check-source.sh 'without a reason'
plant src/exec/mod.rs '#[derive(Clone, Debug)]
pub struct SecretText(String);' check-source.sh 'a secret type'
plant src/exec/mod.rs 'impl std::fmt::Display for crate::identity::secret::Secret {}' check-source.sh 'a secret type'
plant src/exec/mod.rs "const HERE: &str = \"/ro""ot/notes\";" check-source.sh 'a path of one machine'
plant src/exec/mod.rs "$(yes 'const LONG: u8 = 0;' | head -n 20001)" check-source.sh 'too long'

cp src/exec/mod.rs "$copy/before"
echo 'fn f() { unsafe { g() } unsafe { g() } }' >>src/exec/mod.rs
scripts/audit.sh unsafe | grep -cE '^ +2 +0  src/exec/mod\.rs$' >/dev/null || { echo "test-checks: audit.sh did not count unsafe blocks" >&2; exit 1; }
cp "$copy/before" src/exec/mod.rs

echo "test-checks: $planted offences planted, all found"
