"""Pages are served with the parts that they share."""

import re

import pytest

from api.routes import dashboard_routes, label_routes
from api.static_pages import Pages

NAMES = ("dashboard", "submit", "admin", "batch", "workload")


@pytest.mark.parametrize("name", NAMES)
def test_a_page_has_a_head_and_marks_its_own_link(name: str) -> None:
    page = served(Pages(dashboard_routes.PATH, "dashboard"), f"{name}.html")
    own = "/dashboard" if name == "dashboard" else f"/dashboard/{name}.html"
    assert re.findall(r'href="([^"]+)" aria-current="page"', page) == ([own] if name in NAMES[:3] else [])
    assert '<a href="/dashboard/admin.html"' in page


def test_the_label_page_has_the_same_head() -> None:
    served(Pages(label_routes.PATH, "label"), "label.html")


def served(pages: Pages, name: str) -> str:
    """The page's text; each has the styles once, and no place for a part is left."""
    page = bytes(pages.response(name).body).decode()
    assert page.startswith('<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">')
    assert page.count('<link rel="stylesheet" href="/dashboard/dashboard.css">') == 1
    assert "<!--" not in page
    return page
