"""Photos as a training needs them: decoded ahead, changed at random, in batches of equal sizes, in bounded memory."""
