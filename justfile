# Short names for the scripts, which also work without just. `just` lists them.

[private]
default:
    @just --list

# Starts a server with a temporary database, speaks a sample call and tails it.
demo *arguments:
    cargo run --release --bin callscope -- demo {{ arguments }}

# Checks formatting, lints, docs and spelling.
lint:
    tests/run lint

# Runs the named stages of the whole test command: lint, rust, outside, chaos. Without names it runs all of them.
test *stages:
    tests/run {{ stages }}

# Runs the foreign clients' tests that match an expression, for example `just outside drain`.
outside expression:
    tests/run outside -- -k "{{ expression }}"

# Breaks running servers on purpose, for example `just chaos --nodes 3 --kills 300`.
chaos *flags:
    tests/chaos {{ flags }}

# Fuzzes each target for the given number of seconds.
fuzz seconds="60" *targets:
    tests/fuzz/run {{ seconds }} {{ targets }}

# Changes one line at a time and names the tests that notice.
mutants *arguments:
    tests/mutants {{ arguments }}

# Measures Callscope beside its peers, on release builds.
load *arguments:
    tests/load/run {{ arguments }}

# Measures or draws something for the documentation; lists what it can do without an argument.
measure *arguments:
    tests/measure {{ arguments }}

# Checks the dependencies: advisories, licenses, sources. Needs the network.
deny:
    cargo deny check

# Builds both programs as they are shipped.
dist:
    cargo build --locked --profile dist
