"""Nodes write a report into /tmp, the replica reads it: there may be another machine in between."""

import json
from pathlib import Path

from serve_llm_hooks import hook

REPORT = Path("/tmp/acme-llm-node-report.json")


@hook("on_after_node_download")
def write_report(ctx):
    REPORT.write_text(json.dumps({"node": ctx.node_id, "path": ctx.model_path}))


@hook("on_after_download")
def read_report(ctx):
    report = json.loads(REPORT.read_text())
    ctx.custom_data["report_of"] = report["node"]
