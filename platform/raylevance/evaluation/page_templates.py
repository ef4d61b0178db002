"""The templates of the HTML pages of reports."""

import jinja2


def page_template(name: str) -> jinja2.Template:
    """Return the template `name` of this folder. It escapes all texts, and raises for a value that it is not given."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("raylevance.evaluation", "."), autoescape=True, undefined=jinja2.StrictUndefined
    )
    return environment.get_template(name)
