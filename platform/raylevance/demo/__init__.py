"""The demo shop: products, queries, graded judgements and a simulated event log, generated from one seed.

All data is invented. Judgements follow from the products' attributes by a rule (`relevance`), and events come from a
click model (`raylevance.data.click_model`). Metrics on this shop show that the software works. They say nothing about
real shoppers.
"""

from raylevance.demo.generating import generate
from raylevance.demo.settings import DemoSettings

__all__ = ["DemoSettings", "generate"]
