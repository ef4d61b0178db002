"""Judges that grade query-product pairs: guideline, prompt, graders, labelling and audit."""
