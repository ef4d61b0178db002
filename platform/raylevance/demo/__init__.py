"""The demo shop: products, queries, graded judgements and a simulated event log, made from one seed and no file.

Everything in it is invented. Judgements follow from the products' attributes by rule (`relevance`), and events come
from a click model (`clicks`): figures on this shop show that the machinery works, and nothing about real shoppers.
"""

from raylevance.demo.generating import generate
from raylevance.demo.settings import DemoSettings

__all__ = ["DemoSettings", "generate"]
