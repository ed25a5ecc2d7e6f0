"""The report: a chain, its pictures and its measures as one HTML file that opens anywhere."""

from __future__ import annotations

from neurochains.report.collect import collect
from neurochains.report.content import Report
from neurochains.report.render import render
from neurochains.report.writing import write_report

__all__ = ["Report", "collect", "render", "write_report"]
