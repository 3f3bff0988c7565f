//! Counters for every operation, in OpenMetrics text.

use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Upper bounds of the histogram's buckets, in microseconds.
const BOUNDS_US: [u64; 8] = [100, 500, 1_000, 5_000, 25_000, 100_000, 500_000, 2_500_000];

#[derive(Default)]
struct Counts {
    by_class: [AtomicU64; 5],
    buckets: [AtomicU64; BOUNDS_US.len()],
    sum_us: AtomicU64,
}

/// The counters of one service; the last one is for requests that meant no operation.
pub(crate) struct Metrics {
    service: &'static str,
    counts: Vec<Counts>,
}

impl Metrics {
    pub(crate) fn new(service: &'static str, operations: usize) -> Metrics {
        Metrics { service, counts: (0..=operations).map(|_| Counts::default()).collect() }
    }

    pub(crate) fn count(&self, operation: Option<usize>, status: u16, took: Duration) {
        let counts = &self.counts[operation.unwrap_or(self.counts.len() - 1)];
        let class = usize::from(status / 100).clamp(1, 5) - 1;
        let took_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        counts.by_class[class].fetch_add(1, Ordering::Relaxed);
        counts.sum_us.fetch_add(took_us, Ordering::Relaxed);
        if let Some(bucket) = BOUNDS_US.iter().position(|bound| took_us <= *bound) {
            counts.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        }
    }

    /// `names` has a line for each operation, in the order of the table.
    pub(crate) fn text(&self, names: &[String]) -> String {
        let mut text = String::from("# TYPE ferrostack_request_seconds histogram\n");
        let unknown = "(unknown)".to_string();
        for (index, counts) in self.counts.iter().enumerate() {
            let total: u64 = counts.by_class.iter().map(|count| count.load(Ordering::Relaxed)).sum();
            if total == 0 {
                continue;
            }
            let labels = format!("service=\"{}\",operation=\"{}\"", self.service, names.get(index).unwrap_or(&unknown));
            counts.write(&labels, total, &mut text);
        }
        text.push_str("# TYPE ferrostack_requests counter\n");
        for (index, counts) in self.counts.iter().enumerate() {
            let name = names.get(index).unwrap_or(&unknown);
            for (class, count) in counts.by_class.iter().enumerate() {
                let count = count.load(Ordering::Relaxed);
                if count > 0 {
                    let class = class + 1;
                    // Writing to a String cannot fail.
                    let _ = writeln!(
                        text,
                        "ferrostack_requests_total{{service=\"{}\",operation=\"{name}\",class=\"{class}xx\"}} {count}",
                        self.service
                    );
                }
            }
        }
        text.push_str("# EOF\n");
        text
    }
}

impl Counts {
    fn write(&self, labels: &str, total: u64, text: &mut String) {
        let mut below = 0;
        // Writing to a String cannot fail.
        for (bound, bucket) in BOUNDS_US.iter().zip(&self.buckets) {
            below += bucket.load(Ordering::Relaxed);
            let seconds = *bound as f64 / 1e6;
            let _ = writeln!(text, "ferrostack_request_seconds_bucket{{{labels},le=\"{seconds}\"}} {below}");
        }
        let _ = writeln!(text, "ferrostack_request_seconds_bucket{{{labels},le=\"+Inf\"}} {total}");
        let _ = writeln!(text, "ferrostack_request_seconds_count{{{labels}}} {total}");
        let sum = self.sum_us.load(Ordering::Relaxed) as f64 / 1e6;
        let _ = writeln!(text, "ferrostack_request_seconds_sum{{{labels}}} {sum}");
    }
}
