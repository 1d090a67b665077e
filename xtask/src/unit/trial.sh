#!/bin/bash
# Runs inside a booted tree, as root: starts the unit, reloads, upgrades, restarts, kills and stops it, and switches the
# machine off. Says one line per step in /result.
gw="gateway --config /etc/gateway/gateway.toml"
say() { echo "$*" >> /result; }
step() { local name=$1; shift; if "$@" > /tmp/out 2>&1; then say "ok $name"; else say "FAILED $name: $(tail -c 600 /tmp/out | tr '\n' '|')"; fi; }
serves() { for _ in $(seq 100); do [ "$(curl -s -o /dev/null -m 2 -w '%{http_code}' http://127.0.0.1:8080/none)" = 404 ] && [ -n "$(pid proxy_pid)" ] && $gw status > /tmp/status && return 0; sleep 0.1; done; systemctl status gateway --no-pager -l; return 1; }
pid() { $gw status --json | grep -o "\"$1\":[0-9]*" | cut -d: -f2; }
launcher() { systemctl show -p MainPID --value gateway; }
confined() { for p in $(launcher) $(pid guard_pid) $(pid proxy_pid) $(pid observer_pid); do grep -q '^Seccomp:.2' /proc/$p/status && grep -q '^NoNewPrivs:.1' /proc/$p/status || return 1; done; }
# Each role by the user that it should have; the guard is root, without a right.
roles() { for _ in $(seq 100); do local all=1; for r in launcher:0 guard_pid:0 proxy_pid:$(id -u gateway) observer_pid:$(id -u gateway-observer); do
  p=${r%%:*}; [ "$p" = launcher ] && p=$(launcher) || p=$(pid $p); grep -q "^Uid:.${r##*:}\s" /proc/$p/status || all=0; done; [ $all = 1 ] && return 0; sleep 0.1; done; return 1; }
tells() { curl -s -m 2 http://127.0.0.1:9901/metrics | grep gateway_process_up; }
same() { local now; now=$(pid $1); echo "$2 $now"; [ "$now" = "$2" ]; }
other() { local now; now=$(pid $1); echo "$2 $now"; [ -n "$now" ] && [ "$now" != "$2" ]; }
upgrade() { cp /usr/local/bin/gateway /usr/local/bin/new && mv /usr/local/bin/new /usr/local/bin/gateway && systemctl reload gateway && logged "program that is on disk"; }
# The journal is written a moment after what it tells of.
logged() { for _ in $(seq 50); do journalctl -u gateway -o cat --no-pager | grep "$1" && return 0; sleep 0.1; done; return 1; }
attached() { ip -d link show host0 | grep -q xdp; }
gone() { ! pgrep -x gateway && ! pgrep -f '^/usr/local/bin/gateway' && [ "$(systemctl show -p ActiveState --value gateway)" = inactive ]; }
say "$(systemctl --version | head -1), $(ldd --version 2>&1 | head -1), kernel $(uname -r)"
step users systemd-sysusers gateway.conf
ip link set host0 up
step check $gw check
step "doctor before the first start" $gw doctor
systemctl daemon-reload
step verify bash -c "! systemd-analyze verify gateway.service 2>&1 | grep ."
step start systemctl start gateway
step serves serves
# Nothing of the rest would.
[ -e /tmp/status ] || { journalctl -u gateway --no-pager > /journal; systemctl poweroff; exit; }
step "four roles, each by its user" roles
step confined confined
step "the observer tells" tells
step attached attached
step "nothing else is warned of" bash -c "! grep -i warning /tmp/status"
before=$(pid proxy_pid)
step reload systemctl reload gateway
step "served after the reload" serves
step "by the same proxy" same proxy_pid $before
step "upgrade of the proxy" upgrade
step "served after the upgrade" serves
step "by another proxy" other proxy_pid $before
before=$(pid guard_pid)
step "upgrade of all" $gw upgrade
step "served after the upgrade of all" serves
step "by another guard" other guard_pid $before
step ban $gw block add 192.0.2.9 --for 1h
step restart systemctl restart gateway
step "served after the restart" serves
step "the ban is kept" bash -c "$gw block list | grep 192.0.2.9"
before=$(pid guard_pid)
kill -9 $before
step "served after the guard was killed" serves
step "another guard" other guard_pid $before
step "no restart of the unit" [ "$(systemctl show -p NRestarts --value gateway)" = 0 ]
before=$(launcher)
kill -9 $before
# Until systemd has noticed, there is the one before.
another_launcher() { for _ in $(seq 100); do [ "$(launcher)" != "$before" ] && [ "$(launcher)" != 0 ] && return 0; sleep 0.1; done; return 1; }
step "another launcher" another_launcher
step "served after the launcher was killed" serves
before=$(pid proxy_pid)
kill -9 $before
step "served after the proxy was killed" serves
step "another proxy" other proxy_pid $before
step "one restart" [ "$(systemctl show -p NRestarts --value gateway)" = 1 ]
reopen() { mv /var/log/gateway/access.log /var/log/gateway/access.log.1 && systemctl kill -s USR1 --kill-whom=main gateway || return; for _ in $(seq 50); do [ -e /var/log/gateway/access.log ] && return 0; sleep 0.1; done; return 1; }
step "the log is opened anew" reopen
sed -i 's/^workers/wrokers/' /etc/gateway/gateway.toml
step "a wrong configuration is refused by reload" bash -c "! systemctl reload gateway"
step "and serves on" serves
systemctl restart gateway
again() { for _ in $(seq 100); do [ "$(systemctl show -p NRestarts --value gateway)" -ge 3 ] && return 0; sleep 0.1; done; return 1; }
step "a wrong configuration is tried again" again
sed -i 's/^wrokers/workers/' /etc/gateway/gateway.toml
step "and served once it is mended" serves
step doctor $gw doctor
step stop systemctl stop gateway
step gone gone
step "no dump in the journal" bash -c "! journalctl -u gateway --no-pager | grep -q 'state_dir ='"
step "nothing was killed by a filter" bash -c "! journalctl -b --no-pager | grep -i 'SIGSYS\|status=31'"
say "$(systemd-analyze security gateway.service --no-pager | tail -1)"
systemd-analyze security gateway.service --no-pager > /security
journalctl -u gateway --no-pager > /journal
say end
systemctl poweroff
