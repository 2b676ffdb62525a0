"""What operators look at: the list of metrics, the dashboard, alerts, and how Prometheus finds the services.

``python -m deploy.observability`` writes what is generated: ``docs/metrics.md``, the dashboard, and the rules
as Kubernetes has them.
"""
