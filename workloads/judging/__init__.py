"""What gives a grade to pairs that nobody judged: the judges, the language models behind them, a report on them."""
