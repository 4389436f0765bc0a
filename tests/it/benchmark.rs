//! The benchmark measures, and looks whether anything was lost meanwhile. No figure is judged here.

use serde_json::json;

use crate::harness::Stack;

#[tokio::test]
async fn the_benchmark_of_partitions_tells_of_every_phase_and_loses_nothing() {
    let stack = Stack::start().await;
    let figures = stack
        .bench(
            "partitions",
            &[
                "--tenants=4",
                "--alive=2",
                "--round=2",
                "--writers=2",
                "--quiet=1",
                "--reader=1",
                "--reader-tenants=1",
            ],
        )
        .await;
    let counts = |phase: &str| {
        let phases = figures["phases"].as_array().expect("a list of phases");
        let phase = phases.iter().find(|found| found["phase"] == phase);
        phase.map(|phase| phase["n"].clone())
    };
    for (phase, count) in [
        ("create", 4),
        ("create, reader open", 1),
        ("delete", 4),
        ("delete, reader open", 1),
    ] {
        assert_eq!(counts(phase), Some(json!(count)), "{phase}: {figures}");
    }
    let rows = &figures["rows"];
    assert!(rows["accepted"].as_u64() > Some(0), "{rows}");
    assert_eq!(rows["stored"], rows["accepted"]);
    for none in ["failed", "missing", "repeated", "surplus", "dead"] {
        assert_eq!(rows[none], 0, "{none}: {rows}");
    }
    // The messages are the benchmark's, and not on the client's list.
    stack.client.delete_all_tenants().await;
    stack.finish().await;
}
