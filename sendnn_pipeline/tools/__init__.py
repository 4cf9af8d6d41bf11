"""Tools beside the run: each is a module with ``main(argv)``, reached as ``python -m sendnn_pipeline NAME``."""

TOOLS = {
    "explain": "sendnn_pipeline.tools.explain",
    "doctor": "sendnn_pipeline.tools.doctor",
    "catalog": "sendnn_pipeline.tools.catalog",
    "tune": "sendnn_pipeline.tools.tune",
    "plugins": "sendnn_pipeline.tools.plugins",
    "migrate-env": "sendnn_pipeline.tools.migrate_env",
}
