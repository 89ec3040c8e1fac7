//! CPU time and memory of processes, from /proc: the steadiest figures on a noisy machine.

use std::{fs, time::Duration};

use nix::unistd::{SysconfVar, sysconf};

/// What one process has used.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    pub cpu: Duration,
    pub resident_kib: u64,
}

/// User and system time of a process with what it has reaped, and its resident set. Zeros when it is gone.
#[must_use]
pub fn usage(pid: u32) -> Usage {
    let ticks_per_second = sysconf(SysconfVar::CLK_TCK)
        .ok()
        .flatten()
        .unwrap_or(100)
        .max(1);
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The command may contain blanks: fields are counted after the last parenthesis.
    let rest = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let ticks: i64 = rest
        .split_ascii_whitespace()
        .skip(11)
        .take(4)
        .filter_map(|field| field.parse::<i64>().ok())
        .sum();
    let micros = ticks.saturating_mul(1_000_000) / ticks_per_second;
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let resident = resident.and_then(|line| line.split_ascii_whitespace().next()?.parse().ok());
    Usage {
        cpu: Duration::from_micros(u64::try_from(micros).unwrap_or(0)),
        resident_kib: resident.unwrap_or(0),
    }
}

/// The process and all its descendants: nginx has workers, Postgres a process for each connection.
#[must_use]
pub fn tree(root: u32) -> Vec<u32> {
    let mut found = vec![root];
    let mut index = 0;
    while let Some(pid) = found.get(index).copied() {
        let tasks = fs::read_dir(format!("/proc/{pid}/task"))
            .into_iter()
            .flatten()
            .flatten();
        for task in tasks {
            let children = fs::read_to_string(task.path().join("children")).unwrap_or_default();
            found.extend(
                children
                    .split_ascii_whitespace()
                    .filter_map(|pid| pid.parse::<u32>().ok()),
            );
        }
        index += 1;
    }
    found
}

/// Sum over the process and its descendants.
#[must_use]
pub fn tree_usage(root: u32) -> Usage {
    let usages = tree(root).into_iter().map(usage);
    usages.fold(Usage::default(), |sum, one| Usage {
        cpu: sum.cpu + one.cpu,
        resident_kib: sum.resident_kib + one.resident_kib,
    })
}

/// Pins a process with all its threads and descendants to one core.
pub fn pin(root: u32, core: usize) -> anyhow::Result<()> {
    for pid in tree(root) {
        let status = std::process::Command::new("taskset")
            .args(["-a", "-p", "-c", &core.to_string(), &pid.to_string()])
            .stdout(std::process::Stdio::null())
            .status()?;
        anyhow::ensure!(status.success(), "taskset failed for {pid}");
    }
    Ok(())
}
