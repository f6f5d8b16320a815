"""Pictures and tables for people: one self-contained HTML file, its figures as PNG, JSON and CSV beside it."""

from tomoseg.report.files import check_folder, free_name, write_csv, write_json, write_report, write_text
from tomoseg.report.page import Facts, Headline, Note, Part, Picture, Report, Section, Table, render

__all__ = [
    "Facts",
    "Headline",
    "Note",
    "Part",
    "Picture",
    "Report",
    "Section",
    "Table",
    "check_folder",
    "free_name",
    "render",
    "write_csv",
    "write_json",
    "write_report",
    "write_text",
]
